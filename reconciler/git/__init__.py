"""The git edge: a hardened process, objects by full id, a repository over them and the mirror of the watched one."""
