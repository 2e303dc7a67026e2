"""How bytes are accounted: the ledger of storages, the model of the caching allocator, the catalogue of GPUs."""
