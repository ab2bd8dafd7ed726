"""One question a file, named like its chapter: tables in, tables and figures out; nothing here is trained."""
