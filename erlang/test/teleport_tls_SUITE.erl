%% TLS between Erlang nodes: by the application's own configuration, and as distributed Erlang has it. Who gets in, who does not, and
%% what is said then.
-module(teleport_tls_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([calls_and_monitors_go_over_tls/1, nothing_can_be_read/1, plain_nodes_are_refused/1, a_cluster_changes_to_tls_node_by_node/1,
         a_certificate_of_another_authority_is_refused/1, an_expired_certificate_is_refused/1,
         certificates_have_to_name_their_node/1, new_files_hold_for_new_sessions/1,
         files_that_cannot_be_used_are_named_in_the_error/1, carried_distribution_is_encrypted/1]).
-export([an_encrypted_cluster_encrypts_teleport/1, an_encrypted_cluster_is_followed/1,
         options_of_a_file_are_taken_over/1, options_that_are_not_taken_over_prevent_the_start/1,
         options_of_distributed_erlang_become_those_of_the_engine/1]).

-import(teleport_test, [at/4]).

-define(MARKER, <<"a marker that nobody on the way may read">>).

all() ->
    [calls_and_monitors_go_over_tls, nothing_can_be_read, plain_nodes_are_refused, a_cluster_changes_to_tls_node_by_node,
     a_certificate_of_another_authority_is_refused, an_expired_certificate_is_refused, certificates_have_to_name_their_node,
     new_files_hold_for_new_sessions, files_that_cannot_be_used_are_named_in_the_error, carried_distribution_is_encrypted,
     an_encrypted_cluster_encrypts_teleport, an_encrypted_cluster_is_followed,
     options_of_a_file_are_taken_over, options_that_are_not_taken_over_prevent_the_start,
     options_of_distributed_erlang_become_those_of_the_engine].

suite() -> [{timetrap, {minutes, 3}}].

init_per_suite(Config) ->
    ok = teleport_test:distribute(),
    [_, Host] = string:split(atom_to_list(node()), "@"),
    [{host, Host}, {authority, teleport_test_tls:authority()} | Config].

end_per_suite(_Config) ->
    ok.

init_per_testcase(Case, Config) ->
    [{folder, filename:join(?config(priv_dir, Config), Case)} | Config].

end_per_testcase(_Case, _Config) ->
    ok.

%% With certificates of its own.

calls_and_monitors_go_over_tls(Config) ->
    {{PeerA, A}, {PeerB, B}} = {start(Config, []), start(Config, [])},
    Server = teleport_test_server:start_at(B, served),
    Exchange = fun() ->
        {ok, small} = teleport:gs_call({served, B}, {echo, small}),
        Large = binary:copy(<<"large">>, 4 bsl 20),
        {ok, Large} = teleport:gs_call({served, B}, {echo, Large}, 60000),
        Monitor = teleport:monitor(Server),
        %% In order with the monitor, which the signal, over distributed Erlang, is not.
        {ok, monitored} = teleport:gs_call(Server, {echo, monitored}),
        true = exit(Server, kill),
        receive {'DOWN', Monitor, process, _, Reason} -> Reason end
    end,
    ?assertEqual(killed, erpc:call(A, Exchange)),
    [?assertMatch(#{encrypted := true}, erpc:call(Node, teleport, info, [Other])) || {Node, Other} <- [{A, B}, {B, A}]],
    {ok, Steps} = erpc:call(A, teleport, check, [B]),
    {session, ok, Text} = lists:keyfind(session, 1, Steps),
    ?assertNotEqual(nomatch, string:find(Text, ", encrypted;")),
    stop([PeerA, PeerB]).

%% What stands between the nodes sees the marker without TLS, so it would with it.
nothing_can_be_read(Config) ->
    [begin
        {PeerB, B} = start_with(Configuration),
        {Tap, Address} = tap(PeerB),
        {PeerA, A} = start_with([{peers, #{B => Address}} | Configuration]),
        say_marker(PeerA, PeerB, B),
        {IsSeen, Bytes} = teleport_test_tls:seen(Tap, ?MARKER),
        ?assertEqual({Configuration, not IsEncrypted}, {Configuration, IsSeen}),
        ?assert(Bytes > byte_size(?MARKER)),
        ?assertMatch(#{encrypted := IsEncrypted}, erpc:call(A, teleport, info, [B])),
        stop([PeerA, PeerB])
     end || {Configuration, IsEncrypted} <- [{[], false}, {[{tls, own(Config)}], true}]].

plain_nodes_are_refused(Config) ->
    {PeerA, A} = start(Config, []),
    {PeerB, B} = start_with([]),
    assert_refused(A, B, "it has no TLS"),
    assert_refused(B, A, "wants TLS"),
    stop([PeerA, PeerB]).

%% First each node gets certificates and lets plain peers in; when all have them plain ones are refused.
a_cluster_changes_to_tls_node_by_node(Config) ->
    {PeerA, A} = start(Config, [{allow_plain, true}]),
    {PeerB, B} = start_with([]),
    [begin
        ok = erpc:call(From, teleport, prime, [To]),
        ?assertMatch(#{encrypted := false}, erpc:call(From, teleport, info, [To])),
        disconnect(From, To)
     end || {From, To} <- [{A, B}, {B, A}]],
    restart(B, [{tls, own(Config)}, {allow_plain, true}]),
    ok = erpc:call(A, teleport, prime, [B]),
    ?assertMatch(#{encrypted := true}, erpc:call(A, teleport, info, [B])),
    [restart(Node, [{tls, own(Config)}, {allow_plain, false}]) || Node <- [A, B]],
    ok = erpc:call(B, teleport, prime, [A]),
    ?assertMatch(#{encrypted := true}, erpc:call(B, teleport, info, [A])),
    stop([PeerA, PeerB]).

a_certificate_of_another_authority_is_refused(Config) ->
    {PeerA, A} = start(Config, []),
    Other = teleport_test_tls:write(folder(Config), teleport_test_tls:authority(), of_host(Config)),
    {PeerB, B} = start_with([{tls, teleport_test_tls:options(Other)}]),
    assert_refused(A, B, "UnknownIssuer"),
    assert_refused(B, A, "UnknownIssuer"),
    {error, Steps} = erpc:call(A, teleport, check, [B]),
    ?assertMatch({handshake, {error, tls}, _}, lists:keyfind(handshake, 1, Steps)),
    stop([PeerA, PeerB]).

an_expired_certificate_is_refused(Config) ->
    {PeerA, A} = start(Config, []),
    Expired = teleport_test_tls:write(folder(Config), ?config(authority, Config), of_host(Config), {{2001, 1, 1}, {2002, 1, 1}}),
    {PeerB, B} = start_with([{tls, teleport_test_tls:options(Expired)}]),
    assert_refused(A, B, "expired"),
    stop([PeerA, PeerB]).

certificates_have_to_name_their_node(Config) ->
    {PeerA, A} = start(Config, []),
    Of = fun(Names) -> teleport_test_tls:options(teleport_test_tls:write(folder(Config), ?config(authority, Config), Names)) end,
    {PeerB, B} = start_with([{tls, Of([{dNSName, "elsewhere.example"}])}]),
    assert_refused(A, B, "not for " ++ atom_to_list(B) ++ ", but for elsewhere.example"),
    restart(B, [{tls, Of([{uniformResourceIdentifier, "teleport://other@host"}])}]),
    assert_refused(A, B, "but for other@host"),
    restart(B, [{tls, Of([{uniformResourceIdentifier, "teleport://" ++ atom_to_list(B)}])}]),
    ok = erpc:call(A, teleport, prime, [B]),
    %% Who is not asked for a name has any.
    restart(B, [{tls, Of([{dNSName, "elsewhere.example"}])}]),
    restart(A, [{tls, [{names, any} | own(Config)]}]),
    ok = erpc:call(A, teleport, prime, [B]),
    stop([PeerA, PeerB]).

new_files_hold_for_new_sessions(Config) ->
    Folder = teleport_test_tls:write(folder(Config), ?config(authority, Config), of_host(Config)),
    {PeerA, A} = start_with([{tls, [{reload_every, 0} | teleport_test_tls:options(Folder)]}]),
    {PeerB, B} = start(Config, []),
    ok = erpc:call(B, teleport, prime, [A]),
    Other = teleport_test_tls:authority(),
    Folder = teleport_test_tls:write(Folder, Other, of_host(Config)),
    %% The session goes on; new ones go by the new files.
    ok = erpc:call(B, teleport, prime, [A]),
    disconnect(B, A),
    assert_refused(B, A, "UnknownIssuer"),
    Others = teleport_test_tls:write(folder(Config) ++ "_b", Other, of_host(Config)),
    restart(B, [{tls, teleport_test_tls:options(Others)}]),
    ok = erpc:call(B, teleport, prime, [A]),
    stop([PeerA, PeerB]).

files_that_cannot_be_used_are_named_in_the_error(Config) ->
    {Peer, Node} = start_with([]),
    Options = own(Config),
    Key = filename:join(?config(priv_dir, Config), "locked.pem"),
    ok = file:write_file(Key, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
    [begin
        {error, {bad_value, tls, Text}} = erpc:call(Node, fun() -> start_again([{tls, Tls}]) end),
        [?assertNotEqual({Said, nomatch, Text}, {Said, string:find(Text, Said), Text}) || Said <- Parts]
     end || {Tls, Parts} <- [{lists:keystore(cacertfile, 1, Options, {cacertfile, "/nonexistent/ca.pem"}),
                              ["/nonexistent/ca.pem", "for example {tls, [{certfile,"]},
                             {lists:keystore(keyfile, 1, Options, {keyfile, Key}), ["protected by a password"]},
                             {[{colour, red}, {key, secret_in_clear} | Options],
                              ["{colour,red}", "{key,'...'}", "it takes none, or a list with", "for example {tls, [{certfile,"]},
                             {proplists:delete(cacertfile, Options), ["cacertfile is needed"]}]],
    stop([Peer]).

%% Distributed Erlang that goes over teleport is encrypted too. A file may be named from the current folder on.
carried_distribution_is_encrypted(Config) ->
    Options = own(Config),
    Folder = filename:dirname(proplists:get_value(certfile, Options)),
    Relative = [{Option, filename:basename(File)} || {Option, File} <- Options],
    [{PeerA, _A}, {PeerB, B}] = [begin
        Args = ["-proto_dist", "teleport", "-teleport", "tls", lists:flatten(io_lib:format("~0p", [Tls]))],
        {ok, Peer, Node} = peer:start(#{name => peer:random_name(), host => ?config(host, Config), connection => standard_io,
                                        exec => in_folder(Folder), args => Args ++ teleport_test:code_path()}),
        {Peer, Node}
    end || Tls <- [Options, Relative]],
    true = at(PeerA, net_kernel, connect_node, [B]),
    %% What is answered was sent.
    pong = at(PeerA, net_adm, ping, [B]),
    ok = at(PeerA, teleport, start, []),
    ?assertMatch(#{encrypted := true, carried := #{messages_sent := Sent}} when Sent > 0, at(PeerA, teleport, info, [B])),
    stop([PeerA, PeerB]).

%% What runs `erl' there.
in_folder(Folder) ->
    {os:find_executable("env"), ["-C", Folder, "erl"]}.

%% As distributed Erlang has it.

an_encrypted_cluster_encrypts_teleport(Config) ->
    in_a_cluster(Config, in_arguments(Config)).

%% Connections of `inet_tls' have a process, as those have that teleport carries, and are none.
an_encrypted_cluster_is_followed(Config) ->
    Args = in_arguments(Config),
    {PeerB, B} = start_peer_over_tls(Config, Args),
    {PeerA, _A} = start_over_tls(Config, Args, [{fallback, disterl}]),
    true = at(PeerA, net_kernel, connect_node, [B]),
    %% It has no teleport yet.
    ?assertEqual(ok, at(PeerA, teleport, send, [{init, B}, hello])),
    ok = at(PeerB, teleport, start, []),
    teleport_test:eventually(fun() -> at(PeerA, teleport, prime, [B]) =:= ok end),
    Reason = peer:call(PeerA, erlang, apply, [fun() ->
        Monitor = teleport:monitor({init, B}),
        true = erlang:disconnect_node(B),
        receive {'DOWN', Monitor, process, _, Why} -> Why after 10000 -> never end
    end, []], 20000),
    ?assertEqual(noconnection, Reason),
    stop([PeerA, PeerB]).

in_arguments(Config) ->
    [Certificate, Key, Authority] = [File || {_, File} <- own(Config)],
    ["-ssl_dist_opt", "server_certfile", Certificate, "server_keyfile", Key, "server_cacertfile", Authority, "server_verify",
     "verify_peer", "server_fail_if_no_peer_cert", "true", "server_secure_renegotiate", "true", "client_certfile", Certificate,
     "client_keyfile", Key, "client_cacertfile", Authority, "client_verify", "verify_peer"].

%% Without a name in the certificate, which a client is told not to look for, where OTP takes that.
options_of_a_file_are_taken_over(Config) ->
    Names = case erlang:system_info(otp_release) of
        "25" -> of_host(Config);
        _ -> []
    end,
    Folder = teleport_test_tls:write(folder(Config), ?config(authority, Config), Names),
    Common = [{verify, verify_peer}, {secure_renegotiate, true} | teleport_test_tls:options(Folder)],
    Options = [{server, [{fail_if_no_peer_cert, true} | Common]}, {client, [{server_name_indication, disable} | Common]}],
    File = filename:join(Folder, "dist.conf"),
    ok = file:write_file(File, io_lib:format("~p.~n", [Options])),
    in_a_cluster(Config, ["-ssl_dist_optfile", File]).

%% Two nodes that distributed Erlang encrypts between: so does teleport, without being told.
in_a_cluster(Config, Args) ->
    {PeerB, B} = start_over_tls(Config, Args, []),
    {Tap, Address} = tap(PeerB),
    {PeerA, A} = start_over_tls(Config, Args, [{peers, #{B => Address}}]),
    true = at(PeerA, net_kernel, connect_node, [B]),
    ok = at(PeerA, teleport, prime, [B]),
    say_marker(PeerA, PeerB, B),
    ?assertMatch({false, Bytes} when Bytes > 1000, teleport_test_tls:seen(Tap, ?MARKER)),
    ?assertMatch(#{encrypted := true}, at(PeerA, teleport, info, [B])),
    %% And by the way that distributed Erlang tells of.
    ok = at(PeerB, teleport, prime, [A]),
    _ = at(PeerB, teleport_nif, disconnect, [A]),
    %% The session may end after it was primed once more.
    teleport_test:eventually(fun() ->
        at(PeerB, teleport, prime, [A]) =:= ok andalso maps:find(encrypted, info(PeerB, A)) =:= {ok, true}
    end),
    stop([PeerA, PeerB]).

info(Peer, Of) ->
    case at(Peer, teleport, info, [Of]) of
        #{} = Info -> Info;
        {error, no_session} -> #{}
    end.

options_that_are_not_taken_over_prevent_the_start(Config) ->
    [Certificate, Key, Authority] = [File || {_, File} <- own(Config)],
    Args = ["-ssl_dist_opt", "server_certfile", Certificate, "server_keyfile", Key, "client_cacertfile", Authority, "client_verify",
            "verify_peer", "client_depth", "1"],
    {Peer, _Node} = start_peer_over_tls(Config, Args),
    {error, {tls_distribution, Text}} = at(Peer, teleport, start, []),
    [?assertNotEqual({Said, nomatch, Text}, {Said, string:find(Text, Said), Text})
     || Said <- ["depth of the client", "-proto_dist inet_tls", "{tls, [{certfile,", "{allow_plain, true}"]],
    %% Both ways out.
    ok = at(Peer, application, set_env, [teleport, tls, own(Config)]),
    ok = at(Peer, teleport, start, []),
    ok = at(Peer, application, stop, [teleport]),
    ok = at(Peer, application, set_env, [teleport, tls, none]),
    ?assertMatch({error, {tls_distribution, _}}, at(Peer, teleport, start, [])),
    ok = at(Peer, application, unset_env, [teleport, tls]),
    ok = at(Peer, application, set_env, [teleport, allow_plain, true]),
    ok = at(Peer, teleport, start, []),
    stop([Peer]).

%% Of each option what becomes of it, without a node.
options_of_distributed_erlang_become_those_of_the_engine(_Config) ->
    Files = [{certfile, "/c.pem"}, {keyfile, "/k.pem"}, {cacertfile, "/ca.pem"}],
    Peers = [{verify, verify_peer} | Files],
    Side = #{identity => {{file, <<"/c.pem">>}, {file, <<"/k.pem">>}}, authorities => {file, <<"/ca.pem">>}},
    Accepting = Side#{verify => required, names => any},
    Dialling = Side#{verify => required, names => host_or_common_name},
    Sides = fun(Server, Client) -> teleport_tls_dist:sides(Server, Client, 25) end,
    ?assertEqual({ok, Accepting, Dialling}, Sides([{fail_if_no_peer_cert, true} | Peers], Peers)),
    ?assertEqual({ok, Accepting#{verify => if_given}, Dialling}, Sides(Peers, Peers)),
    ?assertEqual({ok, Side#{verify => nothing, names => any}, Dialling#{verify => nothing}}, Sides(Files, Files)),
    %% Newer releases have another default, for clients.
    ?assertEqual({ok, Side#{verify => nothing, names => any}, Dialling}, teleport_tls_dist:sides(Files, Files, 26)),
    %% What comes first counts.
    ?assertEqual(Sides(Peers, Peers), Sides(Peers, Peers ++ [{verify, verify_none}])),
    Nameless = [{server_name_indication, disable} | Peers],
    ?assertEqual({ok, Accepting#{verify => if_given}, Dialling}, teleport_tls_dist:sides(Peers, Nameless, 25)),
    ?assertEqual({ok, Accepting#{verify => if_given}, Dialling#{names => any}}, teleport_tls_dist:sides(Peers, Nameless, 26)),
    Der = [{cert, <<1>>}, {key, {'ECPrivateKey', <<2>>}}, {cacerts, [<<3>>]}],
    {ok, #{identity := {{pem, CertificatePem}, {pem, KeyPem}}, authorities := {pem, AuthorityPem}}, _} = Sides(Der, Der),
    ?assertEqual([{'Certificate', <<1>>, not_encrypted}], public_key:pem_decode(CertificatePem)),
    ?assertEqual([{'ECPrivateKey', <<2>>, not_encrypted}], public_key:pem_decode(KeyPem)),
    ?assertEqual([{'Certificate', <<3>>, not_encrypted}], public_key:pem_decode(AuthorityPem)),
    {ok, Known, _} = Sides(Peers, Peers),
    ?assertMatch({ok, Known, _}, Sides([{verify, verify_peer}, {cacertfile, "/ca.pem"},
                                        {certs_keys, [#{certfile => "/c.pem", keyfile => "/k.pem"}]}], Peers)),
    Taken = [{versions, ['tlsv1.3', 'tlsv1.2']}, {ktls, true}, {depth, 10}, {crl_check, false}, {password, ""}],
    ?assertEqual(Sides(Peers, Peers), Sides(Taken ++ Peers, Taken ++ Peers)),
    [begin
        {error, Text} = Sides(Server, Client),
        ?assertNotEqual({Said, nomatch}, {Said, string:find(Text, Said)})
     end || {Server, Client, Said} <- [{[{verify_fun, {fun erlang:max/2, []}} | Peers], Peers, "verify_fun of the server"},
                                       {Peers, [{ciphers, ["x"]} | Peers], "ciphers of the client"},
                                       {Peers, [{psk_identity, "x"} | Peers], "psk_identity of the client"},
                                       {[{password, "x"} | Peers], Peers, "password of the server"},
                                       {Peers, [{versions, ['tlsv1.2']} | Peers], "versions of the client"},
                                       {Peers, [{depth, 1} | Peers], "depth of the client"},
                                       {[{crl_check, true} | Peers], Peers, "crl_check of the server"},
                                       {Peers, [{server_name_indication, "x"} | Peers], "server_name_indication of the client"},
                                       {[{certs_keys, [#{}, #{}]} | Peers], Peers, "certs_keys of the server"},
                                       {[], Files, "certfile of the server"},
                                       {Files, [{verify, verify_peer}], "cacertfile of the client"},
                                       {[inet6 | Files], Files, "inet6 of the server"}]].

%% In common.

folder(Config) -> ?config(folder, Config).

of_host(Config) -> [{dNSName, ?config(host, Config)}].

%% Options with a certificate for all nodes of this host.
own(Config) ->
    Folder = folder(Config) ++ "_own",
    case filelib:is_dir(Folder) of
        true -> ok;
        false -> Folder = teleport_test_tls:write(Folder, ?config(authority, Config), of_host(Config))
    end,
    teleport_test_tls:options(Folder).

start(Config, More) ->
    start_with([{tls, own(Config)} | More]).

start_with(Configuration) ->
    teleport_test:start_peer(peer:random_name(), Configuration).

start_over_tls(Config, Args, Configuration) ->
    {Peer, Node} = start_peer_over_tls(Config, Args),
    ok = at(Peer, application, set_env, [[{teleport, Configuration}]]),
    ok = at(Peer, teleport, start, []),
    {Peer, Node}.

start_peer_over_tls(Config, Args) ->
    {ok, Peer, Node} = peer:start(#{name => peer:random_name(), host => ?config(host, Config), connection => standard_io,
                                    args => ["-proto_dist", "inet_tls" | Args] ++ teleport_test:code_path()}),
    ok = at(Peer, application, load, [teleport]),
    {Peer, Node}.

stop(Peers) ->
    lists:foreach(fun teleport_test:stop_peer/1, Peers).

restart(Node, Configuration) ->
    ok = erpc:call(Node, fun() -> start_again(Configuration) end).

start_again(Configuration) ->
    _ = application:stop(teleport),
    ok = application:set_env([{teleport, Configuration}]),
    teleport:start().

disconnect(Node, Other) ->
    _ = erpc:call(Node, teleport_nif, disconnect, [Other]),
    teleport_test:eventually(fun() ->
        not teleport_test:has_session(Node, Other) andalso not teleport_test:has_session(Other, Node)
    end).

assert_refused(Node, Other, Said) ->
    {error, {connect, Text}} = erpc:call(Node, teleport, prime, [Other]),
    ?assertNotEqual({Said, nomatch, Text}, {Said, string:find(Text, Said), Text}).

%% Where the node of that process listens, with a tap in front of it.
tap(Peer) ->
    {ok, {_, Port}} = at(Peer, teleport_manager, address, []),
    teleport_test_tls:tap({{127, 0, 0, 1}, Port}).

%% The one calls the other with it, and gets it back.
say_marker(PeerA, PeerB, B) ->
    _ = at(PeerB, teleport_test_server, start, [marked]),
    ?assertEqual({ok, ?MARKER}, at(PeerA, teleport, gs_call, [{marked, B}, {echo, ?MARKER}])).
