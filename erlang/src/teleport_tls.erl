%% @private
%% How the engine encrypts: as configured (`tls'), or as distributed Erlang does on this node. Where that
%% encrypts, or may do so, and the engine would not, the application does not start, unless `allow_plain' is set.
-module(teleport_tls).

-export([is_valid/1, form/0, example/0, shown/1]).
-export([check/0, settings/0, refused/2]).

-export_type([settings/0, side/0, pem/0]).

-type pem() :: {file | pem, binary()}.
%% What the node shows on connections that it accepts, or opens, and what it asks of peers there.
-type side() :: #{identity := {Certificate :: pem(), Key :: pem()} | none,
                  authorities := pem() | none,
                  verify := required | if_given | nothing,
                  names := host | host_or_common_name | any}.
%% What the engine takes.
-type settings() :: #{accepting := side(),
                      dialling := side(),
                      upgrade := boolean(),
                      reload_every := non_neg_integer()}.
%% Where the settings come from.
-type origin() :: configuration | {carrier, string()}.

%% The carriers that do not encrypt, and those that do with TLS, by options that are known.
-define(PLAIN, ["inet_tcp", "inet6_tcp", "teleport", "teleport6"]).
-define(TLS, ["inet_tls", "inet6_tls"]).

%% How long files hold before they are looked at again, in milliseconds.
-define(RELOAD_EVERY, 10000).

%% The configuration.

%% Whether the key `tls' takes this value.
-spec is_valid(term()) -> boolean().
is_valid(none) ->
    true;
is_valid(Options) when length(Options) > 0 ->
    lists:all(fun is_option/1, Options)
        andalso length(lists:ukeysort(1, Options)) =:= length(Options)
        andalso proplists:is_defined(certfile, Options)
        andalso (proplists:is_defined(cacertfile, Options) orelse proplists:get_value(verify, Options) =:= verify_none);
is_valid(_NoList) ->
    false.

-spec is_option(term()) -> boolean().
is_option({File, Name}) when File =:= certfile; File =:= keyfile; File =:= cacertfile -> is_file_name(Name);
is_option({verify, Verify}) -> Verify =:= verify_peer orelse Verify =:= verify_none;
is_option({fail_if_no_peer_cert, Fail}) -> is_boolean(Fail);
is_option({names, Names}) -> Names =:= host orelse Names =:= any;
is_option({reload_every, Time}) -> is_integer(Time) andalso 0 =< Time andalso Time =< 86400000;
is_option(_Other) -> false.

-spec is_file_name(term()) -> boolean().
is_file_name(Name) when is_binary(Name) -> Name =/= <<>>;
is_file_name(Name) -> Name =/= [] andalso io_lib:printable_unicode_list(Name).

%% What it takes, in words.
-spec form() -> string().
form() ->
    "none, or a list with {certfile, File}, {keyfile, File} (if the key is not in the certificate's file), {cacertfile, File},"
    " {verify, verify_peer} (the default, for which cacertfile is needed) or {verify, verify_none}, {fail_if_no_peer_cert, true or"
    " false}, {names, host or any}, {reload_every, Milliseconds}, each once".

-spec example() -> term().
example() ->
    [{certfile, "/etc/node/cert.pem"}, {keyfile, "/etc/node/key.pem"}, {cacertfile, "/etc/node/ca.pem"}].

%% A value that is to be shown, without secrets.
-spec shown(term()) -> term().
shown([{Key, _Value} | Others]) when Key =:= key; Key =:= password; Key =:= certs_keys ->
    [{Key, '...'} | shown(Others)];
%% The tail of an improper list is shown too.
shown([Other | Others]) ->
    [Other | shown(Others)];
shown(Other) ->
    Other.

%% Whether the application can start; a warning if something may go unencrypted that should not.
-spec check() -> ok | {error, {tls_distribution, string()}}.
check() ->
    ok = check_flag(init:get_argument(proto_dist)),
    case {find(), teleport_config:get(allow_plain)} of
        {{error, Text}, false} ->
            {error, {tls_distribution, Text}};
        {{error, Text}, true} ->
            warn("what goes through teleport is not encrypted, as {allow_plain, true} allows: ~ts", [Text]);
        {{ok, _Origin, _Settings}, true} ->
            warn("connections of teleport to peers without TLS are not encrypted, as {allow_plain, true} allows", []);
        _ ->
            ok
    end.

%% Which carrier counts then depends on the release of OTP, and may be one that does not encrypt.
-spec check_flag({ok, [[string()]]} | error) -> ok.
check_flag({ok, [_, _ | _]}) ->
    warn("-proto_dist is given more than once: distributed Erlang goes over ~ts", [lists:join(", ", teleport_dist:carriers())]);
check_flag(_OnceOrNever) ->
    ok.

%% What the engine is to be started with, and where that comes from.
-spec settings() -> {ok, plain | {origin(), settings()}} | {error, {tls_distribution, string()} | {bad_value, tls, string()}}.
settings() ->
    case find() of
        plain -> {ok, plain};
        invalid -> {error, unusable(["it takes ", form()])};
        {ok, Origin, Settings} -> {ok, {Origin, Settings#{upgrade => teleport_config:get(allow_plain)}}};
        {error, Text} ->
            case teleport_config:get(allow_plain) of
                true -> {ok, plain};
                false -> {error, {tls_distribution, Text}}
            end
    end.

%% The engine cannot use them: `plain' if it is to do without.
-spec refused(origin(), unicode:chardata()) -> plain | {error, {tls_distribution, string()} | {bad_value, tls, string()}}.
refused(configuration, Why) ->
    {error, unusable(Why)};
refused({carrier, Carrier}, Why) ->
    Text = not_taken_over(Carrier, Why),
    case teleport_config:get(allow_plain) of
        true ->
            ok = warn("what goes through teleport is not encrypted, as {allow_plain, true} allows: ~ts", [Text]),
            plain;
        false ->
            {error, {tls_distribution, Text}}
    end.

-spec unusable(unicode:chardata()) -> {bad_value, tls, string()}.
unusable(Why) ->
    {bad_value, tls, text("teleport's key tls cannot be used as it is set: ~ts; for example {tls, ~0tp}", [Why, example()])}.

-spec find() -> plain | invalid | {ok, origin(), settings()} | {error, Text :: string()}.
find() ->
    case {teleport_config:get(tls), carriers()} of
        {undefined, []} -> plain;
        {undefined, [Carrier | _]} -> taken_over(Carrier, sides(Carrier));
        {none, []} -> plain;
        {none, [Carrier | _]} -> {error, not_taken_over(Carrier, "teleport's key tls is none")};
        {Options, _} ->
            case is_valid(Options) of
                true -> {ok, configuration, configured(Options)};
                %% It may have been set since distributed Erlang, which goes over the engine, began.
                false -> invalid
            end
    end.

%% The carriers of distributed Erlang that encrypt, or may do so: all that are not known to be plain.
-spec carriers() -> [string()].
carriers() ->
    [Carrier || Carrier <- teleport_dist:carriers(), not lists:member(Carrier, ?PLAIN)].

%% How a carrier encrypts. Options of `ssl' may be of no meaning to any other than OTP's.
-spec sides(string()) -> {ok, side(), side()} | {error, iodata()}.
sides(Carrier) ->
    case lists:member(Carrier, ?TLS) of
        true -> teleport_tls_dist:sides();
        false -> {error, "it does not know this carrier"}
    end.

-spec taken_over(string(), {ok, side(), side()} | {error, iodata()}) ->
    {ok, origin(), settings()} | {error, string()}.
taken_over(Carrier, {ok, Accepting, Dialling}) ->
    Settings = #{accepting => Accepting, dialling => Dialling, upgrade => false, reload_every => ?RELOAD_EVERY},
    {ok, {carrier, Carrier}, Settings};
taken_over(Carrier, {error, Why}) ->
    {error, not_taken_over(Carrier, Why)}.

-spec not_taken_over(string(), unicode:chardata()) -> string().
not_taken_over(Carrier, Why) ->
    Is = case lists:member(Carrier, ?TLS) of
        true -> "is";
        false -> "may be"
    end,
    text("distributed Erlang ~s encrypted on this node (-proto_dist ~ts), and teleport cannot do the same: ~ts. Give it options of its"
         " own, {tls, ~0tp}, in the configuration of the application teleport; or, if the network is trusted or encrypts by itself,"
         " {allow_plain, true}", [Is, Carrier, Why, example()]).

-spec configured([{atom(), term()}]) -> settings().
configured(Options) ->
    Certificate = proplists:get_value(certfile, Options),
    Authorities = case proplists:get_value(cacertfile, Options) of
        undefined -> none;
        File -> file(File)
    end,
    Verify = case {proplists:get_value(verify, Options, verify_peer), proplists:get_value(fail_if_no_peer_cert, Options, true)} of
        {verify_none, _} -> nothing;
        {verify_peer, true} -> required;
        {verify_peer, false} -> if_given
    end,
    Side = #{identity => {file(Certificate), file(proplists:get_value(keyfile, Options, Certificate))},
             authorities => Authorities,
             verify => Verify,
             names => proplists:get_value(names, Options, host)},
    #{accepting => Side, dialling => Side, upgrade => false, reload_every => proplists:get_value(reload_every, Options, ?RELOAD_EVERY)}.

-spec file(file:name_all()) -> pem().
file(Name) ->
    {file, teleport_tls_dist:file_name(Name)}.

-spec warn(io:format(), [term()]) -> ok.
warn(Format, Args) ->
    teleport_log:say(warning, Format, Args, #{}).

-spec text(io:format(), [term()]) -> string().
text(Format, Args) ->
    lists:flatten(io_lib:format(Format, Args)).
