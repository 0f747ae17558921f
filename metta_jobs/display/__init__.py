"""What people see: tables, one job whole, and the live monitor. Readers only: nothing here changes a job."""
