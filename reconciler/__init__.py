"""GitOps for regulated estates: judge, clear, converge, record (docs/architecture.md)."""
