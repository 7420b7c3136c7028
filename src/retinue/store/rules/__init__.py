"""What records and events change in a follow graph, whatever store holds it: stores give the tables, this the rules."""
