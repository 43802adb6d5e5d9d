"""The daemon that answers archive and restore commands over a socket, and its client."""
