"""What plugin authors import: conformance suites, a faulty storage, a crash harness."""
