"""The database engine, the declarative base and column types."""
