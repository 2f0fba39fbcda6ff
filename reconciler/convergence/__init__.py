"""Make it so, keep it so."""
