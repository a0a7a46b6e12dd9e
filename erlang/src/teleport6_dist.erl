%% @private
%% The carrier of distributed Erlang over teleport by IPv6, for `-proto_dist teleport6'. `teleport_dist' does everything: it knows the
%% family by the flag.
-module(teleport6_dist).

-export([childspecs/0, listen/1, listen/2, accept/1, accept_connection/5, setup/5, close/1, select/1, address/0]).
-export([setopts/2, getopts/2, is_node_name/1]).

-include_lib("kernel/include/net_address.hrl").

-spec childspecs() -> {ok, [supervisor:child_spec()]}.
childspecs() ->
    teleport_dist:childspecs().

-spec select(node()) -> boolean().
select(Node) ->
    teleport_dist:select(Node).

-spec is_node_name(term()) -> boolean().
is_node_name(Node) ->
    teleport_dist:is_node_name(Node).

-spec address() -> #net_address{}.
address() ->
    teleport_dist:address().

-spec listen(atom()) -> {ok, {pid(), #net_address{}, integer()}} | {error, term()}.
listen(Name) ->
    teleport_dist:listen(Name).

-spec listen(atom(), string()) -> {ok, {pid(), #net_address{}, integer()}} | {error, term()}.
listen(Name, Host) ->
    teleport_dist:listen(Name, Host).

-spec close(pid() | undefined) -> ok.
close(Listen) ->
    teleport_dist:close(Listen).

-spec accept(pid()) -> pid().
accept(Listen) ->
    teleport_dist:accept(Listen).

-spec accept_connection(pid(), teleport_nif:channel() | port(), node(), [node()], timeout()) -> pid().
accept_connection(Acceptor, Connection, MyNode, Allowed, SetupTime) ->
    teleport_dist:accept_connection(Acceptor, Connection, MyNode, Allowed, SetupTime).

-spec setup(node(), term(), node(), longnames | shortnames, timeout()) -> pid().
setup(Node, Type, MyNode, LongOrShortNames, SetupTime) ->
    teleport_dist:setup(Node, Type, MyNode, LongOrShortNames, SetupTime).

-spec setopts(pid(), [term()]) -> ok | {error, enotsup}.
setopts(Listen, Options) ->
    teleport_dist:setopts(Listen, Options).

-spec getopts(pid(), [term()]) -> {error, enotsup}.
getopts(Listen, Options) ->
    teleport_dist:getopts(Listen, Options).
