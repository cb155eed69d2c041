"""What the driver tells of itself to machines, where it is asked to: metrics over HTTP, and a file of traces.

Both hear of calls and steps through tracing.observers; unset, that costs a look at an empty list.
"""
