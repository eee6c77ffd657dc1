"""What the host itself is asked and told: files, the journal, sockets."""
