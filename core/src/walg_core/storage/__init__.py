"""Object storages: the contract (`api`), the built-in ones, and the layers that wrap any of them."""
