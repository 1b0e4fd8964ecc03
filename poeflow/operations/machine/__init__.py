"""What poeflow finds on a machine: its configuration, and what keeps runs from working."""
