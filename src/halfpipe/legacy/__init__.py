"""What the system before HalfPipe left or does: its deliveries taken over, and compared with what is made here."""
