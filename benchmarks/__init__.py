"""Poll versus push: what waiting for results costs, compared with the bare drivers and with other libraries."""
