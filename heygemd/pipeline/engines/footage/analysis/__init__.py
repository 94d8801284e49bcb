"""What the template shows of its mouth: place, flow, shapes, teeth and skin."""
