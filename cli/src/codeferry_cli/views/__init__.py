"""Views: packing, runs, reports and transfers as people and programs read them."""
