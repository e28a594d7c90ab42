"""Clean-up: what is large and can be made again goes once nobody needs it, and so does what died jobs left."""
