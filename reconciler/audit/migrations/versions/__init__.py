"""One module for each revision of the schema; a revision that shipped is never edited."""
