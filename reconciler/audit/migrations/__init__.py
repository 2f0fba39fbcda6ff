"""Schema migrations of the audit log, run by `storage.Store.open` where a database is older than this version."""
