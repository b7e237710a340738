"""What tests share: small models, made-up results, projects of their own, harnesses."""
