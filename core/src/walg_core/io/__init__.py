"""The only place that renames, fsyncs and sets modes."""
