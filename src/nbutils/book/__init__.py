"""The book: pages staged and embedded, built, and published."""
