"""File formats of volumes: a module each, with the endings, a reader of headers and a writer."""
