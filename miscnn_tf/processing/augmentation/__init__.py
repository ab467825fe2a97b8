"""What augments one sample: the drawn plan, its spatial transform and its intensity transforms."""
