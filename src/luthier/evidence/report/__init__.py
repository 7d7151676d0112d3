"""What people read: the report, the card, a ladder's page, their plots, tables and rows."""
