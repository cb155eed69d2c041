"""What an orchestrator's own interface tells: so far of the nodes, by Kubernetes."""
