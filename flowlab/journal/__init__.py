"""What runs and decisions leave behind: lines of JSON, one model per kind."""
