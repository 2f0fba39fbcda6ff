"""A write: one stage on the cluster, or a plan tried there without being kept."""
