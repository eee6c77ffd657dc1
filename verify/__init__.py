"""How hosts are asked whether they are what was declared: ``make verify``."""
