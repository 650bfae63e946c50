"""What stands beside our figures: programs as a user of the alternative would write them."""
