"""What pages show: a module per page, with its charts, tables and sentences."""
