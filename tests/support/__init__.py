"""What the tests share: no test stands in here."""
