"""From media files to frames and samples."""
