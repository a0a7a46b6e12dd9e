%% The documentation is there for `h/1' of Erlang's shell and of IEx.
-module(teleport_docs_SUITE).

-include_lib("kernel/include/eep48.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([functions_are_documented/1, shells_show_the_documentation/1, what_is_private_is_not/1]).

all() ->
    [functions_are_documented, shells_show_the_documentation, what_is_private_is_not].

functions_are_documented(_Config) ->
    [begin
        {ok, #docs_v1{docs = Docs, module_doc = #{<<"en">> := _}}} = code:get_doc(Module),
        Documented = [{Name, Arity} || {{function, Name, Arity}, _, _, #{<<"en">> := _}, _} <- Docs],
        Exported = Module:module_info(exports) -- [{module_info, 0}, {module_info, 1}],
        ?assertEqual({Module, lists:sort(Exported)}, {Module, lists:sort(Documented)})
     end || Module <- [teleport, teleport_gen_server, teleport_gen_statem, teleport_gen_event, teleport_gen_fsm, teleport_erpc]].

shells_show_the_documentation(_Config) ->
    {ok, Docs} = code:get_doc(teleport),
    Shown = [{"beside distributed Erlang", shell_docs:render(teleport, Docs)},
             {"Sends a message to a process or an alias", shell_docs:render(teleport, send, 3, Docs)},
             {"the numbers of connections for small and for large", shell_docs:render(teleport, check, 1, Docs)},
             {"may overtake earlier messages of its pair", shell_docs:render_type(teleport, send_option, Docs)}],
    [?assertNotEqual({Part, nomatch}, {Part, string:find(in_one_line(Rendered), Part)}) || {Part, Rendered} <- Shown].

in_one_line(Rendered) ->
    lists:append(lists:join(" ", string:lexemes(unicode:characters_to_list(Rendered), " \n"))).

%% Other modules of the application are nobody's business.
what_is_private_is_not(_Config) ->
    [?assertNotMatch({Module, {ok, #docs_v1{module_doc = #{}}}}, {Module, code:get_doc(Module)})
     || Module <- [teleport_manager, teleport_docs]].
