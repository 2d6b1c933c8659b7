"""DeepDive, the heavy mode: from what surrounds an incident to its named cause."""
