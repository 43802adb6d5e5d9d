"""A replica that fell behind, brought forward over the network: `catchup-send`, `catchup-receive` (spec 15.3)."""
