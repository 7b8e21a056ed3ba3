"""What an evaluation writes: tables, plots, HTML pages, contact sheets and files for programs."""
