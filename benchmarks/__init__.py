"""Poll versus push: what waiting for results costs, side by side with the wire and with other libraries."""
