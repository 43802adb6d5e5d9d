"""Settings: declared once (`declare`), read from flag > environment > file > default (`config`), checked, hidden."""
