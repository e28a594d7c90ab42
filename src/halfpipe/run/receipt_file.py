from halfpipe.run.hand_offs import *
from halfpipe.run.hand_offs import last_hand_off

read_receipt = None
publish_receipt = None
