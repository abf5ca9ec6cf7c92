"""What people look at: tables, pictures, and files for other programs."""
