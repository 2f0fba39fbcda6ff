"""OpenShift and Kubernetes: server-side apply of what Git holds, watched."""
