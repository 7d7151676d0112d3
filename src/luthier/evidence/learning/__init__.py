"""What training did: too much, too little or by heart, what was forgotten, what augmentation brought."""
