"""The predecessor's folders and files: imported, repaired, exported. A guest: nothing else in the library knows of it."""
