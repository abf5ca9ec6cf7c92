"""What is checked of a whole configuration, and YAML."""
