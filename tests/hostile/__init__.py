"""Requests that nobody should send, thousands for each service, through the real server on a real Ceph."""
