"""PNG, TIFF, JPEG and BMP files: each format's header and samples, as stored."""
