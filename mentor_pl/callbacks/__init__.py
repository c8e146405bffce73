"""Lightning callbacks: what a run records, reports and guards."""
