"""Where accounts are on the web."""

from rayfold import Route

from deploy.authoring.template.example.account import Deposit, OpenAccount, Withdraw
from deploy.authoring.template.example.views import GetBalance

ROUTES = [
    Route("POST", "/accounts", OpenAccount),
    Route("POST", "/accounts/{account_id}/deposits", Deposit),
    Route("POST", "/accounts/{account_id}/withdrawals", Withdraw),
    Route("GET", "/accounts/{account_id}", GetBalance),
]
