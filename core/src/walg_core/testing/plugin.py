"""The pytest plugin: fixtures that plugin authors get by installing `walg-core[testing]`."""
