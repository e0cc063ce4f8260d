"""Where the numbers come from: kernel files and calls, into tables. No metric has a name here."""
