"""Which byte belongs to what: storages, modules, categories."""
